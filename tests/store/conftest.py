"""What the tests of all stores share.

Each store has a module of its own: ``test_<store>.py`` runs the conformance suite and the store's
own faults, ``<store>_server.py`` starts and stops a real server for it.
"""
