// Package trial puts everything that protects SQL Server's databases to the test at
// once: databases live at random on a laboratory's SQL Server and are backed up by the
// same runs as in earnest, into a real repository; another SQL Server, which has seen
// nothing but that repository, restores random moments; and what it then answers to
// SELECT is held against what had been committed.
//
// It holds tests alone.
package trial
