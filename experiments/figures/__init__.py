"""The pictures and numbers of the documents, drawn from what ships."""
