"""What stands in for the outside world on a developer's machine and in the tests.

A provider, an API and a database, all on 127.0.0.1. Nothing here imports `app`, and `app`
imports nothing from here.
"""
