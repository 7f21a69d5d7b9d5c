// Package trial holds no code, only tests of the whole engine under fire: a
// crash at every storage operation, a store that is full or sick at every
// write, and storms of several machines over a simulated store. They stand
// apart from package repo so that they use nothing but what it exports.
package trial
