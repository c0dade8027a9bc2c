"""How the store's protocol is kept on a disk, with LMDB: the only place that knows files, pages and maps."""
