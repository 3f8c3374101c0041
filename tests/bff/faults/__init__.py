"""`scripts/faults.sh`: what users see while parts of a real system, under load, fail."""
