"""What the public API of Gradients.io's tournaments (https://gradients.io) says, and what it is compared with."""
