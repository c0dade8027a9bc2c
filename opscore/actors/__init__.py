"""A supervised actor library on trio: typed messages, bounded mailboxes and OTP's supervision trees."""
