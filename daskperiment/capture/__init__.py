"""What a trial's outcome depends on besides its parameters: code, environment, values.

Functions, objects and the state of this process come in; plain records (`Code`, `Environment`) and
fingerprints go out. Nothing is written, kept or decided here. Planning captures code and
environment, execution fingerprints what steps are given and give back, and reproduce looks at code
as it is today; stores know nothing of this package.
"""
