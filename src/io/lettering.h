/* lettering.h - short labels drawn into pictures, in a stroke alphabet of our own; internal.
 *
 * It needs no font file and no library, so a picture has its labels on every machine, in the same pixels.  Printable
 * ASCII has letters; any other character is drawn as an empty box.
 */
#ifndef FDM_IO_LETTERING_H
#define FDM_IO_LETTERING_H

#include "fdm/png.h"

struct fdm_lettering {
    double capital; /* height of a capital letter, in pixels, > 0 */
    double weight;  /* width of a stroke, in pixels, > 0 */
    uint8_t color[3];
};

/* How many pixels `text` (UTF-8 or any bytes, NUL-terminated) is wide.  It reaches from `capital` above the base line to a
 * third of that below. */
double fdm_lettering_width(const struct fdm_lettering *how, const char *text);
/* Draws into an RGB image, smoothly over what is there; x is the text's left end, y its base line.  What lies outside of
 * the image is left away. */
void fdm_lettering_draw(fdm_image *image, const struct fdm_lettering *how, double x, double y, const char *text);

#endif
