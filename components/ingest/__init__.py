"""The door for files: a transaction log in, canonical transactions, dead letters and a report that adds up out."""

from components.ingest.ingestion import IngestResult, ingest
from components.ingest.log import LogFile, log_digest, log_files, write_list
from components.ingest.report import IngestReport, excess

__all__ = ["IngestReport", "IngestResult", "LogFile", "excess", "ingest", "log_digest", "log_files", "write_list"]
