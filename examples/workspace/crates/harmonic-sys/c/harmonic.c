#include "harmonic.h"

/* Degrees per hour of the principal lunar semidiurnal constituent. */
static const double M2_SPEED = 28.984104;
static const double PI = 3.14159265358979323846;

/* A short series: the build must not depend on the host's mathematical library. */
static double cosine_of_degrees(double degrees) {
    while (degrees > 180.0) degrees -= 360.0;
    while (degrees < -180.0) degrees += 360.0;
    double x = degrees * PI / 180.0;
    double term = 1.0, sum = 1.0;
    for (int n = 1; n < 14; n++) {
        term *= -x * x / ((2 * n - 1) * (2 * n));
        sum += term;
    }
    return sum;
}

double tides_harmonic_height(double amplitude, double phase, double hours) {
    return amplitude * cosine_of_degrees(M2_SPEED * hours - phase);
}
