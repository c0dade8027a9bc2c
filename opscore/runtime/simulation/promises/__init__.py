"""The runtime's promises, each a function that yields its violations; `invariants.STANDARD` lists them all."""
