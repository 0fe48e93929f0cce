"""The results database: an SQLite file.

sqlite: adds, finds and counts results.
migrations: versions of the schema.
"""
