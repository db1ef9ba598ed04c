"""What people and programs get to read of episodes and runs: statistics, tables, records, pictures, films.

It draws and counts what it is given, and neither simulates nor learns.
"""
