"""What is written into a deployment, as templates."""
