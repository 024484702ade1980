"""Other people's frameworks, each with PUT /buy_order; run by the environment of the rivals.

They import nothing of this project, which is not installed there.
"""
