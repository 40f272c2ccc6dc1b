"""What is read: records, their stamps, and vectors that they bring."""
