"""What is true: events, states and rules, one module per aggregate. No input, no output."""
