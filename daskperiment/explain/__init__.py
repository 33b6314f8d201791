"""Why a step runs, or why it does not."""
