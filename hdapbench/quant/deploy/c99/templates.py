"""The C functions as texts, with places for types.

Maps lie in memory with channels innermost. Convolutions unpack one filter at a time and go over the map with it: this
costs nothing per position, and no input is copied. Linear layers, which have one position, read packed weights.

A right shift of a negative number must keep its sign, as it does in every compiler that matters; a declaration that
does not compile elsewhere makes sure.
"""

from __future__ import annotations

PREAMBLE = """\
typedef char shifts_keep_the_sign[(-1 >> 1) == -1 ? 1 : -1];
"""

LAYER = """\
/* A convolution or linear layer: filters of one bit-width side by side are a run, (number << 4) | bits. */
struct layer {
    const uint8_t *weights;
    const uint16_t *runs;
    const int32_t *bias, *multiplier;
    const uint8_t *shift;
    uint32_t c_in;
    uint16_t c_out, h_in, w_in, h_out, w_out, group_in, group_out;
    int16_t zero_in, zero_out, low, high;
    uint8_t k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w;
};
"""

POOL = """\
struct pool {
    int32_t multiplier;
    uint16_t c, h_in, w_in, h_out, w_out, k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w;
    int16_t zero_in, zero_out, low, high;
    uint8_t shift;
};
"""

POINTWISE = """\
/* Elements of operands are n_pixels times n; an operand of step 0 has one pixel, which stands for all. */
struct pointwise {
    uint32_t n_pixels, n, first_step, second_step, step;
    int32_t first, second;
    int16_t first_zero, second_zero, zero_out, low, high;
    uint8_t shift;
};
"""

RESCALED = """\
static int64_t rescaled(int64_t q, int32_t multiplier, unsigned shift)
{
    return (q * multiplier + ((int64_t)1 << (shift - 1u))) >> shift;
}
"""

FILTER = """\
/* Weights from the at-th of a run on, unpacked into room where they have fewer than 8 bits. */
static const int8_t *filter(const uint8_t *run, uint32_t at, uint32_t n, unsigned bits, int8_t *room)
{
    int8_t *to = room;
    if (bits == 8u) {
        return (const int8_t *)run + at;
    }
    if (bits == 4u) {
        const uint8_t *end = run + (at + n + 1u) / 2u;
        for (const uint8_t *from = run + at / 2u; from < end; from++, to += 2) {
            to[0] = (int8_t)(((*from & 15) ^ 8) - 8);
            to[1] = (int8_t)(((*from >> 4) ^ 8) - 8);
        }
        return room + at % 2u;
    }
    const uint8_t *end = run + (at + n + 3u) / 4u;
    for (const uint8_t *from = run + at / 4u; from < end; from++, to += 4) {
        to[0] = (int8_t)(((*from & 3) ^ 2) - 2);
        to[1] = (int8_t)(((*from >> 2 & 3) ^ 2) - 2);
        to[2] = (int8_t)(((*from >> 4 & 3) ^ 2) - 2);
        to[3] = (int8_t)(((*from >> 6) ^ 2) - 2);
    }
    return room + at % 4u;
}
"""

DOT = """\
static int32_t dot_$x(const $X *x, const int8_t *w, uint32_t n$zero)
{
    int32_t sum = 0;
#ifdef __thumb__ /* unrolled by hand; other compilers are left a loop that they make vectors of */
    for (; n >= 8u; n -= 8u, x += 8, w += 8) {
        sum += ${x0} * w[0] + ${x1} * w[1] + ${x2} * w[2] + ${x3} * w[3];
        sum += ${x4} * w[4] + ${x5} * w[5] + ${x6} * w[6] + ${x7} * w[7];
    }
#else
    for (; n >= 16u; n -= 16u, x += 16, w += 16) {
        int32_t part = 0;
        for (int k = 0; k < 16; k++) {
            part += ${xk} * w[k];
        }
        sum += part;
    }
#endif
    for (; n > 0u; n--, x++, w++) {
        sum += ${x0} * w[0];
    }
    return sum;
}
"""

CONV = """\
static void $name(const struct layer *l, const $X *x, $Y *y, int8_t *room)
{
    const uint8_t *weights = l->weights;
    const uint16_t *run = l->runs;
    const uint32_t row = l->w_in * l->c_in, n = (uint32_t)l->k_h * l->k_w * l->group_in;
    const uint32_t next = l->d_w * l->c_in;
    for (uint32_t o = 0; o < l->c_out; run++) {
        const unsigned bits = *run & 15u;
        const uint32_t end = o + (*run >> 4);
        uint32_t at = 0;
        for (; o < end; o++, at += n) {
            const int8_t *f = filter(weights, at, n, bits, room);
            const $X *from = x + o / l->group_out * l->group_in;
            $Y *to = y + o;
            for (int32_t i = 0; i < l->h_out; i++) {
                const int32_t top = i * l->s_h - l->p_h;
                for (int32_t j = 0; j < l->w_out; j++, to += l->c_out) {
                    const int32_t left = j * l->s_w - l->p_w;
                    const int32_t k0 = left < 0 ? (l->d_w - 1 - left) / l->d_w : 0;
                    const int32_t beyond = left + (l->k_w - 1) * l->d_w - (l->w_in - 1);
                    const int32_t k1 = beyond > 0 ? l->k_w - (beyond + l->d_w - 1) / l->d_w : l->k_w;
                    int32_t sum = l->bias[o];
                    for (int32_t k = 0; k < l->k_h && k1 > k0; k++) {
                        const int32_t h = top + k * l->d_h;
                        if (h < 0 || h >= l->h_in) {
                            continue;
                        }
                        const $X *p = from + (uint32_t)h * row + (uint32_t)(left + k0 * l->d_w) * l->c_in;
                        const int8_t *w = f + (uint32_t)(k * l->k_w + k0) * l->group_in;
                        uint32_t taps = (uint32_t)(k1 - k0);
                        if (l->group_in == next) {
                            sum += dot_$x(p, w, taps * next$arg);
                        } else if (l->group_in == 1u) {
                            for (; taps > 0u; taps--, p += next, w++) {
                                sum += ${p} * *w;
                            }
                        } else {
                            for (; taps > 0u; taps--, p += next, w += l->group_in) {
                                sum += dot_$x(p, w, l->group_in$arg);
                            }
                        }
                    }
                    int64_t q = rescaled(sum, l->multiplier[o], l->shift[o]);
                    $store
                }
            }
        }
        weights += (at * bits + 7u) / 8u;
    }
}
"""

LINEAR = """\
static void $name(const struct layer *l, const $X *x, $Y *y)
{
    const uint8_t *w = l->weights;
    const uint16_t *run = l->runs;
    for (uint32_t o = 0; o < l->c_out; run++) {
        const unsigned bits = *run & 15u;
        const uint32_t end = o + (*run >> 4);
        for (; o < end; o++) {
            $Y *to = y + o;
            int32_t sum = l->bias[o];
            uint32_t n = l->c_in;
            const $X *p = x;
            if (bits == 8u) {
                sum += dot_$x(p, (const int8_t *)w, n$arg);
                w += n;
            } else if (bits == 4u) {
                for (; n >= 2u; n -= 2u, p += 2, w++) {
                    sum += ${p0} * (((*w & 15) ^ 8) - 8) + ${p1} * (((*w >> 4) ^ 8) - 8);
                }
                if (n > 0u) {
                    sum += ${p0} * (((*w++ & 15) ^ 8) - 8);
                }
            } else {
                for (; n >= 4u; n -= 4u, p += 4, w++) {
                    sum += ${p0} * (((*w & 3) ^ 2) - 2) + ${p1} * (((*w >> 2 & 3) ^ 2) - 2);
                    sum += ${p2} * (((*w >> 4 & 3) ^ 2) - 2) + ${p3} * (((*w >> 6) ^ 2) - 2);
                }
                for (unsigned k = 0; k < n; k++, p++) {
                    sum += ${p0} * (((*w >> 2u * k & 3) ^ 2) - 2);
                }
                w += n > 0u;
            }
            int64_t q = rescaled(sum, l->multiplier[o], l->shift[o]);
            $store
        }
    }
}
"""

POOLING = """\
static void $name(const struct pool *l, const $X *x, $Y *y)
{
    for (int32_t i = 0; i < l->h_out; i++) {
        for (int32_t j = 0; j < l->w_out; j++) {
            for (uint32_t c = 0; c < l->c; c++) {
                $Y *to = y++;
                int64_t q = $start;
                for (int32_t k = 0; k < l->k_h; k++) {
                    const int32_t h = i * l->s_h - l->p_h + k * l->d_h;
                    for (int32_t m = 0; m < l->k_w; m++) {
                        const int32_t w = j * l->s_w - l->p_w + m * l->d_w;
                        if (h >= 0 && h < l->h_in && w >= 0 && w < l->w_in) {
                            const $X *p = x + ((uint32_t)h * l->w_in + (uint32_t)w) * l->c + c;
                            $step
                        }
                    }
                }
                $store
            }
        }
    }
}
"""

ELEMENTS = """\
static void $name(const struct pointwise *l$operands, $Y *y)
{
    for (uint32_t i = 0; i < l->n_pixels; i++) {
        for (uint32_t c = 0; c < l->n; c++) {
            $Y *to = y + i * l->step + c;
            $compute
            $store
        }
    }
}
"""

TABLE = """\
static void $name(const $Y *table, int32_t start, uint32_t n, const $X *x, $Y *y)
{
    for (uint32_t i = 0; i < n; i++) {
        y[i] = table[x[i] - start];
    }
}
"""

TAKE = """\
static void $name(const uint16_t *channels, uint32_t n_pixels, uint32_t n, uint32_t all, int32_t move, const $X *x,
                  $Y *y)
{
    for (uint32_t i = 0; i < n_pixels; i++) {
        for (uint32_t c = 0; c < n; c++) {
            *y++ = ($Y)(x[i * all + channels[c]] + move);
        }
    }
}
"""

REORDER = """\
/* Channels innermost becomes channels outermost. */
static void $name(uint32_t n_pixels, uint32_t n, int32_t move, const $X *x, $Y *y)
{
    for (uint32_t c = 0; c < n; c++) {
        for (uint32_t i = 0; i < n_pixels; i++) {
            *y++ = ($Y)(x[i * n + c] + move);
        }
    }
}
"""

NARROW = """\
q = q < l->low ? l->low : q > l->high ? l->high : q;
*to = ($Y)(q + l->zero_out);"""

WIDE = "*to = q < 0 && l->low == 0 ? 0 : q;"
"""A score is cut at zero at most."""

_SECOND = "const int64_t b = second[i * l->second_step + c] - l->second_zero;"
_FIRST = "const int64_t a = first[i * l->first_step + c] - l->first_zero;"

COMPUTE = {
    "add": f"""\
{_FIRST}
{_SECOND}
int64_t q = (a * l->first + b * l->second + ((int64_t)1 << (l->shift - 1u))) >> l->shift;""",
    "mul": f"""\
{_FIRST}
{_SECOND}
int64_t q = rescaled(a * b, l->first, l->shift);""",
    "rescale": f"{_FIRST}\nint64_t q = rescaled(a, l->first, l->shift);",
    "move": f"{_FIRST}\nint64_t q = a;",
}

POOL_STEPS = {
    "max_pool": ("INT64_MIN", "if (*p - l->zero_in > q) {{\n    q = *p - l->zero_in;\n}}"),
    "avg_pool": ("0", "q += *p - l->zero_in;"),
}
