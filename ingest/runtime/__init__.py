"""What the stages share: bounded queues, cancellation, in-flight ids, retry policy, limiter."""
