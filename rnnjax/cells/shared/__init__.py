"""What cells of several families share."""
