"""What is trained with beside cross-entropy."""
