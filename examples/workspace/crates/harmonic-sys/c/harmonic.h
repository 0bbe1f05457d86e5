#ifndef TIDES_HARMONIC_H
#define TIDES_HARMONIC_H

/* The height of one constituent: amplitude in metres, phase in degrees, time in hours. */
double tides_harmonic_height(double amplitude, double phase, double hours);

#endif
