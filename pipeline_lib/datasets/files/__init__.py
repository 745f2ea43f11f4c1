"""The user's own files: folders, archives, URLs and tables of labels."""
