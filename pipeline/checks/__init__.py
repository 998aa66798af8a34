"""What is known of a job before anything starts."""
