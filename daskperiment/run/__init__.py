"""What happens inside a running trial: begin, run a step, record, end."""
