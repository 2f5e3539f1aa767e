"""The airline desk: bookings, changes and refunds, interoperable with tau2-bench's airline domain."""
