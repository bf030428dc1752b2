//! The keeper's brain: from goal, journal and observation to the next step.
