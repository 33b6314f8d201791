"""What a trial's outcome depends on besides its parameters: code, environment, data."""
