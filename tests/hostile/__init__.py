"""Files that an attacker made: none opens with wrong bytes, each raises what the format says."""
