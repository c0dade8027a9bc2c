"""The store's protocol implemented on disk, with LMDB: the only place that knows files, pages and maps."""
