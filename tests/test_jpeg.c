/* test_jpeg.c - JPEG images: what was drawn is what is read, as far as JPEG keeps it; cut and damaged files. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "io/image_file.h"
#include "io_util.h"

START_TEST(jpegs) {
    static const struct {
        const char *file;
        int side, channels;
    } good[] = {{"baseline.jpg", 16, 3},
                {"progressive.jpg", 16, 3},
                {"gray.jpg", 16, 1},
                {"restart.jpg", 32, 3},
                {"odd.jpg", 17, 3}};
    fdm_error err = {.status = FDM_OK};
    fdm_image image;
    struct fdm_image_info info;
    char path[200];
    size_t n;
    int refused = 0, accepted = 0;
    for (size_t i = 0; i < FDM_ARRAY_LEN(good); i++) {
        snprintf(path, sizeof path, "tests/corpus/jpeg/%s", good[i].file);
        unsigned char *bytes = read_bytes(path, &n);
        ck_assert_msg(fdm_image_decode(&image, bytes, n, path, &err) == FDM_OK, "%s", err.message);
        ck_assert(image.width == good[i].side && image.height == good[i].side &&
                  image.channels == good[i].channels);
        ck_assert_int_eq(fdm_image_probe(&info, bytes, n, path, &err), FDM_OK);
        ck_assert(info.width == good[i].side && info.height == good[i].side && info.channels == good[i].channels);
        /* What was drawn: (16x, 16y, 128 in the disc or 30), as far as JPEG keeps it. */
        double worst = 0;
        for (int y = 0; y < good[i].side && good[i].channels == 3 && good[i].side == 16; y++)
            for (int x = 0; x < 16; x++) {
                double d = image.pixels[3 * (16 * y + x) + 1] - 16.0 * y;
                worst = d * d > worst * worst ? d : worst;
            }
        printf("%s: green at most %.0f of 255 off\n", good[i].file, worst);
        ck_assert(worst * worst < 60 * 60);
        fdm_image_free(&image);
        /* Cut off anywhere: refused.  A byte damaged: refused, or an image of some size. */
        for (size_t cut = 0; cut < n; cut++) {
            unsigned char *exact = copy_bytes(bytes, cut);
            check_refused(fdm_image_decode(&image, exact, cut, "cut.jpg", &err), FDM_BAD_INPUT, &err, "cut.jpg");
            ck_assert_ptr_null(image.pixels);
            memcpy(exact, bytes, cut);
            free(exact);
            exact = copy_bytes(bytes, n);
            exact[cut] ^= 0x55;
            fdm_status status = fdm_image_decode(&image, exact, n, "damaged.jpg", &err);
            if (status) check_refused(status, FDM_BAD_INPUT, &err, "damaged.jpg");
            *(status ? &refused : &accepted) += 1;
            fdm_image_free(&image);
            free(exact);
        }
        free(bytes);
    }
    printf("JPEG, one byte damaged: %d refused, %d accepted (the format has no checksum)\n", refused, accepted);
    unsigned char *cmyk = read_bytes("tests/corpus/jpeg/cmyk.jpg", &n);
    check_refused(fdm_image_decode(&image, cmyk, n, "cmyk.jpg", &err), FDM_BAD_INPUT, &err,
                  "4 colour components; save it as");
    free(cmyk);
}
END_TEST

/* Tables that stb would take as they are: written beyond their ends, or used without having been given. */
START_TEST(jpeg_tables) {
    size_t n, at = 0;
    fdm_error err;
    fdm_image image;
    unsigned char *bytes = read_bytes("tests/corpus/jpeg/gray.jpg", &n);
    while (bytes[at] != 0xff || bytes[at + 1] != 0xc4) at++; /* the first Huffman table */
    unsigned char *counts = bytes + at + 5, *quantiser = bytes;
    while (quantiser[0] != 0xff || quantiser[1] != 0xdb) quantiser++;
    counts[0] += 3;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "more Huffman codes of 1 bits");
    counts[0] -= 3;
    unsigned char kept[16];
    memcpy(kept, counts, sizeof kept);
    memset(counts, 0, sizeof kept);
    counts[8] = counts[9] = 150;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "Huffman table of 300 codes");
    memcpy(counts, kept, sizeof kept);
    counts[-1] = 0x21;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err, "damaged Huffman table");
    counts[-1] = 0x01;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "Huffman tables are missing");
    counts[-1] = 0x00;
    quantiser[4] = 1;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "quantisation table is missing");
    quantiser[4] = 0;
    ck_assert_int_eq(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_OK);
    fdm_image_free(&image);
    free(bytes);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("jpeg");
    TCase *tc = tcase_create("jpeg");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, jpegs);
    tcase_add_test(tc, jpeg_tables);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
