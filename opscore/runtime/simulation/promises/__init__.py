"""The promises of the runtime, each a function that yields what breaks it; `invariants.STANDARD` names them all."""
