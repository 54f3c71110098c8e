"""Boards reached over TVM's RPC: serving one, tracking many, and running, timing and counting on them."""
