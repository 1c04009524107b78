/* lettering.c - a stroke alphabet: each character is a few lines and curves, drawn with a round pen at any size. */
#include "io/lettering.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

enum {
    CAPITAL = 12,    /* units from the base line to the top of a capital; small letters have 8 */
    SPACING = 4,     /* units between the strokes of neighbours */
    BLANK = 4,       /* the blank's width */
    DESCENT = 4,     /* units from the base line to the foot of a g */
    MAX_POINTS = 16, /* of a stroke */
    MAX_PIECES = 160,
    CURVE = 6 /* straight pieces from one point of a curve to the next */
};

/* Strokes, apart by blanks; each a list of points (x, y), two digits of base 36, y from the top of the capitals (0) over
 * the base line (c) down.  '~' starts a smooth curve through its points, closed if the last is the first.  x starts at 0. */
static const char *const alphabet[] = {
    /*   */ "",
    /* ! */ "0008 0b0c",
    /* " */ "0003 3033",
    /* # */ "301c 806c 0494 0898",
    /* $ */ "~83613103154677896b2b0a 404c",
    /* % */ "~2042240220 ~88aa8c6a88 901c",
    /* & */ "~9c352240625417092c5c97",
    /* ' */ "0003",
    /* ( */ "~3013071b3e",
    /* ) */ "~0023272b0e",
    /* * */ "3137 0266 6206",
    /* + */ "434b 0787",
    /* , */ "1b0e",
    /* - */ "0757",
    /* . */ "0b0c",
    /* / */ "600d",
    /* 0 */ "~4072867a4c1a061240",
    /* 1 */ "03303c",
    /* 2 */ "~0311407183660c 0c8c",
    /* 3 */ "~013061736536 ~3677896c3c0b",
    /* 4 */ "6c600888",
    /* 5 */ "701005 ~054475887b4c0b",
    /* 6 */ "~714013081b4c7b8876451608",
    /* 7 */ "00802c",
    /* 8 */ "~40717446141140 ~46887b4c1b0846",
    /* 9 */ "~1b4c7984714011041647767384",
    /* : */ "0506 0b0c",
    /* ; */ "1516 1b0e",
    /* < */ "83078b",
    /* = */ "0585 0989",
    /* > */ "03870b",
    /* ? */ "~0210406173553738 3b3c",
    /* @ */ "~8b5c1a06125091b5a98884 ~866435386886",
    /* A */ "0c50ac 2888",
    /* B */ "50000c5c 0656 ~50717456 ~56888a5c",
    /* C */ "~92704012061a4c7c9a",
    /* D */ "40000c4c ~4082968a4c",
    /* E */ "80000c8c 0666",
    /* F */ "80000c 0666",
    /* G */ "~92704012061a4c7c9a 9a9757",
    /* H */ "000c 909c 0696",
    /* I */ "000c",
    /* J */ "5058 ~585a3c1c0a",
    /* K */ "000c 8007 358c",
    /* L */ "000c7c",
    /* M */ "0c0058a0ac",
    /* N */ "0c009c90",
    /* O */ "~5081a68b5c2b062150",
    /* P */ "0c0050 ~50828557 5707",
    /* Q */ "~5081a68b5c2b062150 69ad",
    /* R */ "0c0050 ~50828557 5707 478c",
    /* S */ "~82603002154677896c2c0a",
    /* T */ "0080 404c",
    /* U */ "0008 ~081b4c7b88 8880",
    /* V */ "004c80",
    /* W */ "003c629cc0",
    /* X */ "008c 800c",
    /* Y */ "004680 464c",
    /* Z */ "00800c8c",
    /* [ */ "30000e3e",
    /* \ */ "006d",
    /* ] */ "00303e0e",
    /* ^ */ "044084",
    /* _ */ "0d8d",
    /* ` */ "0022",
    /* a */ "~765424060a2c5c7a 747c",
    /* b */ "000c ~062454767a5c2c0a",
    /* c */ "~755424060a2c5c7b",
    /* d */ "707c ~765424060a2c5c7a",
    /* e */ "0878 ~787654240608 ~080a2c5c7b",
    /* f */ "~503022 222c 0454",
    /* g */ "747d ~765424060a2c5c7a ~7d5g2g0f",
    /* h */ "000c ~06245476 767c",
    /* i */ "040c 0001",
    /* j */ "242d ~2d1g0g 2021",
    /* k */ "000c 6409 277c",
    /* l */ "000a ~0a1c2c",
    /* m */ "040c ~06244456 565c ~567494a6 a6ac",
    /* n */ "040c ~06245476 767c",
    /* o */ "~2454767a5c2c0a0624",
    /* p */ "040g ~062454767a5c2c0a",
    /* q */ "747g ~765424060a2c5c7a",
    /* r */ "040c ~072454",
    /* s */ "~6544240628586a4c2c0b",
    /* t */ "2129 ~292b4c5c 0454",
    /* u */ "040a ~0a2c5c7a 747c",
    /* v */ "043c64",
    /* w */ "042c558ca4",
    /* x */ "046c 640c",
    /* y */ "043c 641g",
    /* z */ "04640c6c",
    /* { */ "~40212507292d4e",
    /* | */ "000f",
    /* } */ "~00212547292d0e",
    /* ~ */ "~08265876",
};
static const char *const box = "00808c0c00";

struct point {
    double x, y;
};

static const char *strokes_of(unsigned char c) {
    return c >= ' ' && c - ' ' < (int)FDM_ARRAY_LEN(alphabet) ? alphabet[c - ' '] : box;
}

/* A byte within a character of UTF-8, whose first byte was drawn. */
static bool is_continuation(unsigned char c) { return (c & 0xc0) == 0x80; }

static int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* The points of the stroke at s; returns its end. */
static const char *read_stroke(const char *s, struct point points[MAX_POINTS], int *count) {
    for (*count = 0; *s && *s != ' ' && *count < MAX_POINTS; s += 2)
        points[(*count)++] = (struct point){digit(s[0]), digit(s[1])};
    return s;
}

/* Units that a character is wide, without what keeps it from the next. */
static int character_width(unsigned char c) {
    struct point points[MAX_POINTS];
    int width = c == ' ' ? BLANK : 0, count;
    for (const char *s = strokes_of(c); *s;) {
        s = read_stroke(s + (*s == '~'), points, &count);
        for (int i = 0; i < count; i++) width = fdm_max_int(width, (int)points[i].x);
        if (*s) s++;
    }
    return width;
}

double fdm_lettering_width(const struct fdm_lettering *how, const char *text) {
    int64_t units = 0;
    for (const char *c = text; *c; c++)
        if (!is_continuation((unsigned char)*c)) units += character_width((unsigned char)*c) + SPACING;
    return units ? (double)(units - SPACING) * how->capital / CAPITAL + how->weight : 0;
}

/* ---- The pen ----------------------------------------------------------------------------------------------- */

/* A character as straight pieces, in units. */
struct outline {
    struct point from[MAX_PIECES], to[MAX_PIECES];
    int count;
};

static void add_piece(struct outline *o, struct point from, struct point to) {
    if (o->count == MAX_PIECES) return;
    o->from[o->count] = from;
    o->to[o->count++] = to;
}

/* The Catmull-Rom spline through b and c with neighbours a and d: its tangent in b is (c - a) / 2, in c (d - b) / 2. */
static double spline(double a, double b, double c, double d, double t) {
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

static void add_curve(struct outline *o, const struct point *p, int n) {
    if (n < 2) return;
    const bool closed = p[0].x == p[n - 1].x && p[0].y == p[n - 1].y;
    for (int i = 0; i + 1 < n; i++) {
        const struct point a = i ? p[i - 1] : closed ? p[n - 2] : p[0];
        const struct point d = i + 2 < n ? p[i + 2] : closed ? p[1] : p[n - 1];
        struct point last = p[i];
        for (int k = 1; k <= CURVE; k++) {
            const double t = (double)k / CURVE;
            const struct point next = {spline(a.x, p[i].x, p[i + 1].x, d.x, t), spline(a.y, p[i].y, p[i + 1].y, d.y, t)};
            add_piece(o, last, next);
            last = next;
        }
    }
}

static void trace(struct outline *o, unsigned char c) {
    struct point points[MAX_POINTS];
    int count;
    o->count = 0;
    for (const char *s = strokes_of(c); *s;) {
        const bool curve = *s == '~';
        s = read_stroke(s + curve, points, &count);
        if (curve)
            add_curve(o, points, count);
        else
            for (int i = 0; i + 1 < count; i++) add_piece(o, points[i], points[i + 1]);
        if (*s) s++;
    }
}

static double distance(struct point p, struct point a, struct point b) {
    const double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
    double t = length > 0 ? ((p.x - a.x) * dx + (p.y - a.y) * dy) / length : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    const double ex = p.x - a.x - t * dx, ey = p.y - a.y - t * dy;
    return sqrt(ex * ex + ey * ey);
}

/* The share of a pixel that the pen covers, as if its edge were straight there: by the nearest piece, so that strokes
 * which cross do not darken each other. */
static double coverage(const struct outline *o, struct point p, double unit, double weight) {
    double nearest = INFINITY;
    for (int i = 0; i < o->count; i++) nearest = fmin(nearest, distance(p, o->from[i], o->to[i]));
    return fmax(0, fmin(1, 0.5 * weight + 0.5 - nearest * unit));
}

static int inside(double x, int limit) { return x < 0 ? 0 : x > limit ? limit : (int)x; }

static void draw_character(fdm_image *image, const struct fdm_lettering *how, double x, double y, unsigned char c) {
    const double unit = how->capital / CAPITAL, air = 0.5 * how->weight + 1;
    struct outline o;
    trace(&o, c);
    const int left = inside(x - air, image->width), right = inside(x + character_width(c) * unit + air + 1, image->width);
    const int top = inside(y - (CAPITAL + 1) * unit - air, image->height);
    const int bottom = inside(y + (DESCENT + 1) * unit + air + 1, image->height);
    for (int row = top; row < bottom; row++) {
        uint8_t *pixel = image->pixels + 3 * ((size_t)row * (size_t)image->width + (size_t)left);
        for (int column = left; column < right; column++, pixel += 3) {
            const struct point p = {(column + 0.5 - x) / unit, (row + 0.5 - y) / unit + CAPITAL};
            const double share = coverage(&o, p, unit, how->weight);
            for (int k = 0; k < 3; k++) pixel[k] = (uint8_t)(pixel[k] + share * (how->color[k] - pixel[k]) + 0.5);
        }
    }
}

void fdm_lettering_draw(fdm_image *image, const struct fdm_lettering *how, double x, double y, const char *text) {
    x += 0.5 * how->weight;
    for (const char *c = text; *c && x < image->width; c++) {
        if (is_continuation((unsigned char)*c)) continue;
        draw_character(image, how, x, y, (unsigned char)*c);
        x += (character_width((unsigned char)*c) + SPACING) * how->capital / CAPITAL;
    }
}
