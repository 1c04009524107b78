/* test_originals.c - CIFAR-10 and MNIST as they are published, and images resized. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "io/originals.h"
#include "io/resize.h"
#include "io_util.h"

#define P(pickle) (pickle), sizeof(pickle) - 1
START_TEST(cifar_and_mnist) {
    static const char *const files[] = {"batch.pickle", "batch4.pickle"};
    fdm_error err = {.status = FDM_OK};
    char path[200];
    size_t n;
    for (int f = 0; f < 2; f++) {
        struct fdm_originals set = {.count = 0};
        snprintf(path, sizeof path, "tests/corpus/dataset/%s", files[f]);
        unsigned char *bytes = read_bytes(path, &n);
        ck_assert_msg(fdm_cifar_pickle_parse(&set, bytes, n, path, &err) == FDM_OK, "%s", err.message);
        ck_assert(set.count == 1 && set.height == 32 && set.width == 32 && set.channels == 3);
        ck_assert_int_eq(set.classes[0], f ? 0 : 6);
        for (int i = 0; i < 3072; i++) /* planes in the file, pixels here */
            ck_assert_uint_eq(set.pixels[(i % 1024) * 3 + i / 1024], (unsigned)(i * 7 + i / 32) % 256);
        ck_assert_int_eq(fdm_cifar_pickle_parse(&set, bytes, n, path, &err), FDM_OK); /* adds another one */
        ck_assert_uint_eq(set.count, 2);
        fdm_originals_free(&set);
        for (size_t cut = 0; cut < n; cut += cut < 200 || cut + 200 > n ? 1 : 37) {
            unsigned char *exact = copy_bytes(bytes, cut);
            check_refused(fdm_cifar_pickle_parse(&set, exact, cut, "cut", &err), FDM_BAD_INPUT, &err, "cut");
            free(exact);
            fdm_originals_free(&set);
        }
        free(bytes);
    }
    static const struct {
        const char *pickle;
        size_t n;
        const char *mention;
    } bad[] = {{P("\x80\x02"
                  "cos\nsystem\nU\x04"
                  "true\x85R."),
                "names os.system"}, /* refused before it could be called */
               {P("\x80\x02"
                  "cos\nsystem\n)\x81."),
                "names os.system"},
               {P("cos\nsystem\n(S'true'\ntR."), "no pickle of protocol 2 to 5"},
               {"\x80\x02}.", 4, "no \"data\""},
               {P("\x80\x02h\x05."), "a memo that was never written"},
               {P("\x80\x02]]ae."), "no mark"},
               {P("\x80\x02u."), "no mark"},
               {P("\x80\x02T\xff\xff\xff\x7f."), "a string is cut off"},
               {P("\x80\x02r\xff\xff\xff\xff."), "nothing to remember"},
               {P("\x80\x02Nr\xff\xff\xff\xff."), "a memo beyond what it can have written"},
               {P("\x80\x06N."), "protocol not 2 to 5"},
               {P("\x80\x02."), "not one value"},
               {P("\x80\x02]q\x00h\x00"
                  "a."),
                "no \"data\""}}; /* a list in itself */
    for (size_t i = 0; i < FDM_ARRAY_LEN(bad); i++) {
        struct fdm_originals set = {.count = 0};
        unsigned char *exact = copy_bytes(bad[i].pickle, bad[i].n);
        check_refused(fdm_cifar_pickle_parse(&set, exact, bad[i].n, "bad", &err), FDM_BAD_INPUT, &err,
                      bad[i].mention);
        free(exact);
        fdm_originals_free(&set);
    }
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 3, 9};
    unsigned char *idx = read_bytes("tests/corpus/dataset/digits.idx", &n);
    for (int border = 0; border < 2; border++) {
        struct fdm_originals set = {.count = 0};
        ck_assert_msg(fdm_mnist_parse(&set, idx, n, labels, sizeof labels, border, "m", &err) == FDM_OK, "%s",
                      err.message);
        const int side = border ? 32 : 28;
        ck_assert(set.count == 2 && set.height == side && set.width == side && set.channels == 1);
        ck_assert(set.classes[0] == 3 && set.classes[1] == 9);
        for (int i = 0; i < 2 * side * side; i++) {
            int y = i / side % side - 2 * border, x = i % side - 2 * border;
            bool inside = x >= 0 && x < 28 && y >= 0 && y < 28;
            ck_assert_uint_eq(set.pixels[i], inside ? (unsigned)(i / (side * side) * 784 + y * 28 + x) % 251 : 0);
        }
        fdm_originals_free(&set);
        check_refused(fdm_mnist_parse(&set, idx, n - 1, labels, sizeof labels, border, "m", &err), FDM_BAD_INPUT,
                      &err, "do not make");
        check_refused(fdm_mnist_parse(&set, idx, n, labels, sizeof labels - 1, border, "m", &err), FDM_BAD_INPUT,
                      &err, "labels");
        check_refused(fdm_mnist_parse(&set, idx, 15, labels, sizeof labels, border, "m", &err), FDM_BAD_INPUT, &err,
                      "no idx3");
        ck_assert_ptr_null(set.pixels);
    }
    free(idx);
}
END_TEST

START_TEST(resizing) {
    enum { W = 40, H = 24 };
    fdm_image in = {.width = W, .height = H, .channels = 3, .pixels = malloc((size_t)W * H * 3)}, out;
    fdm_error err;
    for (int i = 0; i < W * H * 3; i++)
        in.pixels[i] = (uint8_t)(i % 3 == 0 ? 5 * (i / 3 % W) : i % 3 == 1 ? 200 : 10 * (i / 3 / W));
    const struct fdm_rectangle all = {0, 0, W, H}, part = {8, 4, 16, 16};
    ck_assert_int_eq(fdm_image_resize(&out, &in, part, 16, 16, &err), FDM_OK); /* cut out, not filtered */
    for (int i = 0; i < 16 * 16; i++)
        ck_assert(memcmp(out.pixels + 3 * i, in.pixels + 3 * ((i / 16 + 4) * W + i % 16 + 8), 3) == 0);
    fdm_image_free(&out);
    static const int sizes[][2] = {{20, 12}, {10, 6}, {80, 48}, {7, 5}, {1, 1}, {40, 1}, {39, 24}};
    double worst = 0;
    for (size_t s = 0; s < FDM_ARRAY_LEN(sizes); s++) {
        const int w = sizes[s][0], h = sizes[s][1];
        ck_assert_int_eq(fdm_image_resize(&out, &in, all, w, h, &err), FDM_OK);
        ck_assert(out.width == w && out.height == h && out.channels == 3);
        for (int i = 0; i < w * h; i++) { /* a constant stays, a slope keeps its place, away from the edges */
            double x = (i % w + 0.5) * W / w - 0.5, d = out.pixels[3 * i] - 5 * x,
                   margin = 3.0 * (W > w ? (double)W / w : 1);
            ck_assert_uint_eq(out.pixels[3 * i + 1], 200);
            if (x > margin && x < W - 1 - margin && d * d > worst * worst) worst = d;
        }
        fdm_image_free(&out);
    }
    printf("resize: a slope is at most %.2f grey levels off\n", worst);
    ck_assert(worst * worst < 4);
    /* The finest pattern averages out: no aliasing. */
    for (int i = 0; i < W * H * 3; i++) in.pixels[i] = i / 3 % 2 ? 255 : 0;
    ck_assert_int_eq(fdm_image_resize(&out, &in, all, 10, 6, &err), FDM_OK);
    for (int i = 2; i < 8; i++) ck_assert(out.pixels[3 * i] > 125 && out.pixels[3 * i] < 131);
    fdm_image_free(&out);
    fdm_image_free(&in);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("originals");
    TCase *tc = tcase_create("originals");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, cifar_and_mnist);
    tcase_add_test(tc, resizing);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
