"""Schedules: runs that start by themselves, by cron in a zone or at one time."""
