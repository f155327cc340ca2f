package org.qlora4j.nf4.tensor;

import java.util.Objects;

/**
 * A matrix on a device: {@code rows} rows of {@code cols} elements, {@code stride} elements from one row to the next. A
 * vector is a matrix of one row; heads, batches and sequences are columns and rows of a matrix, as BLAS sees them.
 *
 * <p>A value without maths and without ownership: the {@link Memory} it names frees the bytes.
 *
 * @param memory the scope that owns the bytes
 * @param dtype element type
 * @param rows number of rows, at least 0
 * @param cols number of columns, at least 0
 * @param stride elements between the starts of two rows, at least {@code cols}
 * @param address address of the first element in the device's memory
 */
public record Tensor(Memory memory, DType dtype, int rows, int cols, int stride, long address) {
    public Tensor {
        Objects.requireNonNull(memory, "memory");
        if (rows < 0 || cols < 0 || stride < cols) {
            throw new IllegalArgumentException("a tensor needs rows >= 0, cols >= 0 and stride >= cols; got rows "
                    + rows + ", cols " + cols + ", stride " + stride);
        }
    }

    /** Number of elements, without the gaps between rows. */
    public long numel() {
        return (long) rows * cols;
    }

    /** True if the rows follow each other without gaps. */
    public boolean isContiguous() {
        return stride == cols || rows <= 1;
    }

    /** Bytes from the first element to behind the last one. */
    public long spanBytes() {
        return rows == 0 ? 0 : (((long) (rows - 1)) * stride + cols) * dtype.bytes();
    }

    /** Address of the first element of row {@code row}. */
    public long rowAddress(int row) {
        return address + (long) row * stride * dtype.bytes();
    }

    /** Rows {@code first} to {@code first + count - 1}: the same bytes. */
    public Tensor rows(int first, int count) {
        Objects.checkFromIndexSize(first, count, rows);
        return new Tensor(memory, dtype, count, cols, stride, rowAddress(first));
    }

    /** Columns {@code first} to {@code first + count - 1}: the same bytes. */
    public Tensor cols(int first, int count) {
        Objects.checkFromIndexSize(first, count, cols);
        return new Tensor(memory, dtype, rows, count, stride, address + (long) first * dtype.bytes());
    }

    /**
     * The same elements as a matrix of another shape.
     *
     * @throws IllegalArgumentException if the element counts differ or the rows have gaps
     */
    public Tensor reshape(int newRows, int newCols) {
        if (!isContiguous() || (long) newRows * newCols != numel()) {
            throw new IllegalArgumentException("cannot view " + this + " as [" + newRows + ", " + newCols + "]");
        }
        return new Tensor(memory, dtype, newRows, newCols, newCols, address);
    }

    /** True if rows and columns are equal. */
    public boolean sameShape(Tensor other) {
        return rows == other.rows && cols == other.cols;
    }

    @Override
    public String toString() {
        return dtype + " [" + rows + ", " + cols + "]" + (isContiguous() ? "" : " stride " + stride) + " on "
                + memory.deviceName();
    }
}
