"""What several of the verbs share."""
