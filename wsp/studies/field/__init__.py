"""What the field asks: one study a question, each on its own data."""
