"""What a champion is and would do, read from its files alone: nothing of it is imported or executed."""
