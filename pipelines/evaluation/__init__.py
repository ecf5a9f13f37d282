"""Generated clips against real ones, as sets or pair by pair."""
