"""The results database: an SQLite file.

sqlite: adds, finds and counts results.
checksums: what damaged rows are found by.
migrations: versions of the schema.
"""
