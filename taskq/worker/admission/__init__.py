"""The stations between a fetched entry and its run."""
