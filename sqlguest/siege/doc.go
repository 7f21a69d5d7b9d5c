// Package siege has no code: its tests take a run's parts away from it while it backs
// up a SQL Server through the agent, at every phase, and hold what is left against the
// one rule that must never break: a log that SQL Server has truncated is committed in
// the repository.
package siege
