"""Where records live: the protocol, the stores that keep it, and the journal before them."""
