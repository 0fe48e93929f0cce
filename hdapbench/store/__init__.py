"""The results database: an SQLite file.

sqlite: adds, finds and counts results.
brief: what boards take of a result, read in microseconds.
claims: which worker has which trial.
checksums: what damaged rows are found by.
migrations: versions of the schema.
"""
