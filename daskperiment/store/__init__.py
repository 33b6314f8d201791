"""Where records live.

Records and objects come in as bytes and go out as the same bytes; what they mean, nothing in here
knows. ``opening`` makes a store of what a person gives as backend; the stores for a folder, Redis
and MongoDB keep the contract that ``protocol`` writes down. Everything above uses a store through
that protocol alone.
"""
