"""What comes to a model that is in use, and what it makes: watched for drift, collapse and copies."""
