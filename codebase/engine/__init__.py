"""How commands become events and events become rows. It knows no context and no HTTP."""
