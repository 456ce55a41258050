"""What people prefer: strengths of what they compared, how far they agree, how many answers it takes."""
