"""The results database: an SQLite file, or a database of a PostgreSQL server. Both hold the same and mean the same.

sqlite: adds, finds and counts results.
specs: what is registered of benchmarks.
claims: which worker has which trial.
brief: what boards take of a result, read in microseconds.
checksums: what damaged rows are found by.
migrations: versions of the schema.
connection: what databases differ in, once; sqlite_file, postgres: the two.
place, network_folder: where a database is.
moving: all of a database into another.
travel: results of a benchmark in a file.
"""
