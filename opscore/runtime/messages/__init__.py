"""What the runtime's actors send one another, by receiver, and their addresses.

A message without a reply is a hint: everything that it would cause can be rebuilt from rows.
"""
