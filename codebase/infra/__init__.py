"""How it runs: one module per thing we talk to, or shell that we need."""
